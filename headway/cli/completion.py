"""What the shells complete. argcomplete walks the parser; its own scripts complete programs, and not
`python -m service`, so the few lines that call it are here."""

from __future__ import annotations

import argparse
from typing import Any

from headway.client import Client, is_live

BASH = r"""# eval "$(python -m service completion bash)"
_headway() {
    [[ "${COMP_WORDS[1]-}" == -m && "${COMP_WORDS[2]-}" == service ]] || { COMPREPLY=(); return; }
    local IFS=$'\013'
    COMPREPLY=($(IFS="$IFS" COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_TYPE="$COMP_TYPE" \
        _ARGCOMPLETE_COMP_WORDBREAKS="$COMP_WORDBREAKS" _ARGCOMPLETE=3 _ARGCOMPLETE_SHELL=bash \
        _ARGCOMPLETE_SUPPRESS_SPACE=1 "$1" -m service 8>&1 9>&2 1>/dev/null 2>&1 </dev/null))
    [[ "${COMPREPLY-}" == *= ]] && compopt -o nospace
}
complete -o default -o bashdefault -F _headway python python3
"""
ZSH = r"""# eval "$(python -m service completion zsh)", after compinit
_headway_before=${_comps[python]-_default}
_headway() {
    [[ "${words[2]}" == -m && "${words[3]}" == service ]] || { $_headway_before "$@"; return; }
    local IFS=$'\013' found
    local -a completions open described
    completions=($(IFS="$IFS" COMP_LINE="$BUFFER" COMP_POINT="$CURSOR" _ARGCOMPLETE=3 \
        _ARGCOMPLETE_SHELL=zsh _ARGCOMPLETE_SUPPRESS_SPACE=1 \
        "${(Q)words[1]}" -m service 8>&1 9>&2 1>/dev/null 2>&1 </dev/null))
    for found in "${completions[@]}"; do
        found="${found%:None}"
        case "${found%:}" in
            # Somebody types on there.
            *[=/]) open+=("${found%:}") ;;
            *) described+=("$found") ;;
        esac
    done
    compadd -S '' -a open
    _describe headway described
}
compdef _headway python python3
"""
FISH = r"""# python -m service completion fish | source
function __headway_complete
    set -lx _ARGCOMPLETE 3
    set -lx _ARGCOMPLETE_DFS \t
    set -lx _ARGCOMPLETE_IFS \n
    set -lx _ARGCOMPLETE_SUPPRESS_SPACE 1
    set -lx _ARGCOMPLETE_SHELL fish
    set -lx COMP_LINE (commandline -p)
    set -lx COMP_POINT (string length (commandline -cp))
    set -l words (commandline -opc)
    # Of a value fish would offer everything once more.
    string match -qr -- '^[^-].*=' (commandline -ct); and return
    $words[1] -m service 8>&1 9>&2 1>/dev/null 2>&1
end
complete -c python -c python3 -f -n 'string match -q -- "* -m service *" (commandline -cp)' \
    -a '(__headway_complete)'
"""
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


def script(args: argparse.Namespace) -> int:
    print(SCRIPTS[args.shell], end="")
    return 0


# argcomplete calls these with what was typed so far, and takes an exception for nothing.


def types(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job_type["name"] for job_type in Client(parsed_args.url).types()]


def parameters(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    found = {t["name"]: t["params"] for t in Client(parsed_args.url).types()}
    return [f"{name}=" for name in found[parsed_args.type]["properties"]]


def jobs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job["id"] for job in Client(parsed_args.url).list(limit=50)]


def live_jobs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job["id"] for job in Client(parsed_args.url).list(limit=50) if is_live(job)]
