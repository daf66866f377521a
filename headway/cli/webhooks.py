"""`headway webhooks`: lists, makes and removes webhooks, shows what was delivered, and sends it again."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from headway.cli import commands
from headway.cli.one_line import sanitized
from headway.client import Client, Delivery, Webhook

EVENTS = ("state", "artifact", "end")


def add_arguments(
    parser: argparse.ArgumentParser, common: Callable[[argparse.ArgumentParser, Callable[..., int]], None]
) -> None:
    """Add the actions; `common` adds what all commands have and says what one does."""
    actions = parser.add_subparsers(title="actions", metavar="action", required=True)

    def action(name: str, does: Callable[..., int], help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(name, help=help, description=help)
        common(added, does)
        return added

    def named(name: str, does: Callable[..., int], help: str) -> argparse.ArgumentParser:
        added = action(name, does, help)
        added.add_argument("name", metavar="NAME", type=commands.identifier)
        return added

    action("list", show_all, "print the webhooks")
    added = named(
        "create", create, "make a webhook and print its secret, which is not shown again; or change it"
    )
    added.add_argument("receiver", metavar="RECEIVER", type=commands.identifier, help="https:// address")
    add_event_option(added)
    named("delete", delete, "remove a webhook; what waits to be delivered is dropped")
    named("rotate", rotate, "make a new secret and print it; the old one signs beside it for a day")
    named("deliveries", deliveries, "print the last 100 tries to deliver, newest first")
    added = named("redeliver", redeliver, "deliver an event once more")
    added.add_argument("delivery", metavar="ID", type=commands.identifier, help="of `deliveries`: evt_…")


def add_event_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--event",
        dest="events",
        action="append",
        choices=EVENTS,
        help="what is sent; repeat the option for more; default: end",
    )


def show_all(args: argparse.Namespace, client: Client) -> int:
    for webhook in client.webhooks():
        if args.json:
            commands.dump(webhook)
        else:
            print(sanitized(webhook_line(webhook)))
    return 0


def create(args: argparse.Namespace, client: Client) -> int:
    made = client.put_webhook(args.name, args.receiver, args.events)
    secret = made.get("secret")
    if args.json:
        commands.dump(made)
    elif secret is None:
        print(sanitized(webhook_line(made)))
    else:
        print(secret)
        commands.complain("the secret is not shown again; give it to the receiver")
    return 0


def delete(args: argparse.Namespace, client: Client) -> int:
    client.delete_webhook(args.name)
    return 0


def rotate(args: argparse.Namespace, client: Client) -> int:
    made = client.rotate_webhook(args.name)
    if args.json:
        commands.dump(made)
        return 0
    print(made["secret"])
    if made["previous_until"]:
        commands.complain(f"the old secret signs beside it until {made['previous_until']}")
    return 0


def deliveries(args: argparse.Namespace, client: Client) -> int:
    for delivery in client.deliveries(args.name):
        if args.json:
            commands.dump(delivery)
        else:
            print(sanitized(delivery_line(delivery)))
    return 0


def redeliver(args: argparse.Namespace, client: Client) -> int:
    client.redeliver(args.name, args.delivery)
    return 0


def webhook_line(webhook: Webhook) -> str:
    parts = [webhook["name"]]
    if webhook["url"] is not None and webhook["events"] is not None:
        parts += [webhook["url"], ",".join(webhook["events"])]
    parts += [f"{webhook['pending']} pending"] if webhook["pending"] else []
    parts += [f"{webhook['missed']} missed"] if webhook["missed"] else []
    parts += [f"failing since {webhook['failing_since']}"] if webhook["failing_since"] else []
    parts += [f"disabled ({webhook['disabled']})"] if webhook["disabled"] else []
    return "  ".join(parts)


def delivery_line(delivery: Delivery) -> str:
    why = delivery["error"] or (f"{delivery['status']}" if delivery["status"] is not None else "")
    outcome = delivery["outcome"].replace("_", " ") + (f" ({why})" if why else "")
    parts = [delivery["id"], delivery["at"], delivery["job"], delivery["event"]]
    parts += [f"attempt {delivery['attempt']}", outcome]
    parts += [f"next {delivery['next_at']}"] if delivery["next_at"] else []
    return "  ".join(parts)
