"""Who is let in by `perdure serve` and `perdure dev`: their options, and `perdure token`."""

from __future__ import annotations

import importlib
import logging
import logging.handlers
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli.metrics import OtelOption
from perdure.cli.output import tell
from perdure.cli.trouble import Trouble

HostOption = Annotated[str, typer.Option("--host", help="Where to listen.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]
TokensOption = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="Whom to let in, see `perdure token`.", show_default=False),
]
NameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host-name",
        metavar="NAME",
        help="A name by which it is reached; may be repeated.",
        show_default=False,
    ),
]
ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy-header",
        metavar="NAME",
        help="The header in which a reverse proxy says who asks.",
        show_default=False,
    ),
]
ProxyFromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--proxy-from",
        metavar="NETWORK",
        help="From where the proxy connects; may be repeated. [default: this machine]",
        show_default=False,
    ),
]
ProxyRoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--proxy-role",
        metavar="WHO=ROLE",
        help="What somebody may do whom the proxy names, or everybody else: '*=viewer'; may be repeated.",
        show_default=False,
    ),
]
ProxyNamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--proxy-namespace",
        metavar="NAME",
        help="The header in which the proxy says which namespace they see, or * for all.",
        show_default=False,
    ),
]
AuditOption = Annotated[
    Path | None,
    typer.Option(
        "--audit-log",
        metavar="FILE",
        help="Where to write who changed what, a line of JSON each.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What `perdure serve` and `perdure dev` have in common on the command line."""

    host: HostOption = "127.0.0.1"
    port: PortOption = 8700
    tokens: TokensOption = None
    host_names: NameOption = None
    proxy_header: ProxyOption = None
    proxy_from: ProxyFromOption = None
    proxy_roles: ProxyRoleOption = None
    proxy_namespace: ProxyNamespaceOption = None
    audit_log: AuditOption = None
    otel: OtelOption = False

    def access(self) -> Any:
        """Who is let in.

        Raises:
            Trouble: what is said doesn't go together.
        """
        web = web_package()
        return web.Access(
            tokens=None if self.tokens is None else web.Tokens.load(self.tokens),
            proxy=self._proxy(web),
            hosts=tuple(self.host_names or ()),
        )

    def _proxy(self, web: Any) -> Any:
        if self.proxy_header is None:
            if self.proxy_from or self.proxy_roles or self.proxy_namespace:
                raise Trouble(
                    "Options about a proxy need --proxy-header, the header in which it says who asks."
                )
            return None
        roles = dict(_role(web, text) for text in self.proxy_roles or ())
        if not roles:
            raise Trouble(
                "Nobody whom the proxy names may do anything: say who may what, as in --proxy-role alice=admin "
                "--proxy-role '*=viewer'"
            )
        networks = {"networks": tuple(self.proxy_from)} if self.proxy_from else {}
        return web.Proxy(self.proxy_header, roles, **networks, namespace_header=self.proxy_namespace)


def _role(web: Any, text: str) -> tuple[str, Any]:
    who, sign, role = text.rpartition("=")
    if not sign or not who:
        raise Trouble(f"{text!r} gives nobody a role: write WHO=ROLE, as in alice=admin or '*=viewer'")
    return who, web.Role.named(role)


def keep_audit(path: Path | None) -> None:
    """Write to a file, too, who changes what. Its lines are appended; whoever rotates it may move it away."""
    if path is None:
        return
    try:
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise Trouble(
            f"The audit log can't be written: {error}. Give another file to --audit-log."
        ) from error
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("perdure.audit").addHandler(handler)


def web_package() -> Any:
    """The package, which needs an extra; loaded by name, as edges don't import each other."""
    try:
        importlib.import_module("perdure.web.serving")
    except ImportError as error:
        raise Trouble(
            f"Serving needs packages that aren't installed ({error.name}). "
            "Install them: pip install 'perdure[server]'"
        ) from error
    return importlib.import_module("perdure.web")


token = typer.Typer(name="token", help="Tokens by which the server lets others in.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Option("--tokens", metavar="FILE", help="Where their digests are kept.")]


@token.command("new")
def new_token(
    name: Annotated[
        str, typer.Argument(help="Whose it is; a new one of the same name replaces the old one.")
    ],
    role: Annotated[
        str, typer.Option("--role", metavar="viewer|operator|admin", help="What it lets one do.")
    ] = "viewer",
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", help="The namespace it leads to, and to nothing else.", show_default=False
        ),
    ] = None,
    file: FileArgument = Path("perdure-tokens.json"),
) -> None:
    """Make a token and print it, this once: only its digest is kept."""
    web = web_package()
    found = web.Tokens.load(file) if file.exists() else web.Tokens()
    made = found.issue(name, web.Role.named(role), namespace=namespace)
    found.save(file)
    typer.echo(made)
    within = "" if namespace is None else f" of the namespace {namespace}"
    tell(f"{name} is {role}{within}. A server with --tokens {file} knows it from now on.")


@token.command("ls")
def list_tokens(file: FileArgument = Path("perdure-tokens.json")) -> None:
    """Whose tokens there are."""
    for name, known in sorted(web_package().Tokens.load(file).by_name.items()):
        typer.echo("\t".join([name, known.role.name.lower(), *filter(None, [known.namespace])]))


@token.command("rm")
def remove_token(
    name: Annotated[str, typer.Argument(help="Whose.")], file: FileArgument = Path("perdure-tokens.json")
) -> None:
    """Make a token void."""
    found = web_package().Tokens.load(file)
    if found.by_name.pop(name, None) is None:
        raise Trouble(f"There is no token of {name!r} in {file}: perdure token ls --tokens {file}")
    found.save(file)
    tell(f"The token of {name} is void, also for those who are logged in with it.")
