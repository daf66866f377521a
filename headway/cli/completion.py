"""Completion in bash, zsh and fish.

argcomplete walks the parser. Its own scripts complete programs but not `python -m headway`, so the lines
that call it are here. `_ARGCOMPLETE` is the number of words that name the program.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Any

from headway.client import Client, is_live

BASH = r"""# eval "$(headway completion bash)"
_headway() {
    local run=("$1")
    if [[ "${1##*/}" == python* ]]; then
        [[ "${COMP_WORDS[1]-}" == -m && "${COMP_WORDS[2]-}" == headway ]] || { COMPREPLY=(); return; }
        run+=(-m headway)
    fi
    local IFS=$'\013'
    COMPREPLY=($(IFS="$IFS" COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_TYPE="$COMP_TYPE" \
        _ARGCOMPLETE_COMP_WORDBREAKS="$COMP_WORDBREAKS" _ARGCOMPLETE=${#run[@]} _ARGCOMPLETE_SHELL=bash \
        _ARGCOMPLETE_SUPPRESS_SPACE=1 "${run[@]}" 8>&1 9>&2 1>/dev/null 2>&1 </dev/null))
    [[ "${COMPREPLY-}" == *= ]] && compopt -o nospace
}
complete -o default -o bashdefault -F _headway headway python python3
"""
ZSH = r"""# eval "$(headway completion zsh)", after compinit
_headway_before=${_comps[python]-_default}
_headway() {
    local -a run completions open described
    run=("${(Q)words[1]}")
    if [[ "${words[1]:t}" == python* ]]; then
        [[ "${words[2]}" == -m && "${words[3]}" == headway ]] || { $_headway_before "$@"; return; }
        run+=(-m headway)
    fi
    local IFS=$'\013' found
    completions=($(IFS="$IFS" COMP_LINE="$BUFFER" COMP_POINT="$CURSOR" _ARGCOMPLETE=$#run \
        _ARGCOMPLETE_SHELL=zsh _ARGCOMPLETE_SUPPRESS_SPACE=1 \
        "${run[@]}" 8>&1 9>&2 1>/dev/null 2>&1 </dev/null))
    for found in "${completions[@]}"; do
        found="${found%:None}"
        case "${found%:}" in
            # The word goes on after these.
            *[=/]) open+=("${found%:}") ;;
            *) described+=("$found") ;;
        esac
    done
    compadd -S '' -a open
    _describe headway described
}
compdef _headway headway python python3
"""
FISH = r"""# headway completion fish | source
function __headway_complete
    set -lx _ARGCOMPLETE_DFS \t
    set -lx _ARGCOMPLETE_IFS \n
    set -lx _ARGCOMPLETE_SUPPRESS_SPACE 1
    set -lx _ARGCOMPLETE_SHELL fish
    set -lx COMP_LINE (commandline -p)
    set -lx COMP_POINT (string length (commandline -cp))
    set -l words (commandline -opc)
    # fish would offer the whole of a value once more.
    string match -qr -- '^[^-].*=' (commandline -ct); and return
    set -l run $words[1]
    string match -q -- '*python*' $words[1]; and set run $words[1..3]
    set -lx _ARGCOMPLETE (count $run)
    $run 8>&1 9>&2 1>/dev/null 2>&1
end
complete -c headway -f -a '(__headway_complete)'
complete -c python -c python3 -f -n 'string match -q -- "* -m headway *" (commandline -cp)' \
    -a '(__headway_complete)'
"""
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


def script(args: argparse.Namespace) -> int:
    if find_spec("argcomplete") is None:
        print("headway: completion needs argcomplete: pip install 'headway[cli]'", file=sys.stderr)
        return 2
    print(SCRIPTS[args.shell], end="")
    return 0


# argcomplete calls these with what was typed so far, and takes an exception for no completions.


def _client(parsed_args: argparse.Namespace) -> Client:
    return Client(parsed_args.url, token=parsed_args.token)


def types(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job_type["name"] for job_type in _client(parsed_args).types()]


def parameters(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    # Without a type yet, what is typed may be either.
    found = {t["name"]: t["params"] for t in _client(parsed_args).types() if t["name"] == parsed_args.type}
    return [f"{name}=" for params in found.values() for name in params["properties"]]


def jobs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job["id"] for job in _client(parsed_args).list(limit=50)]


def live_jobs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [job["id"] for job in _client(parsed_args).list(limit=50) if is_live(job)]
