"""``watchbill run``: the exporter."""

from __future__ import annotations

import click
from click.core import ParameterSource

from watchbill.cli.outside import Outside
from watchbill.domain.places import Places, places

TRIGGERS = ("signal", "change")


def _triggers(ctx: click.Context, parameter: click.Parameter, value: str) -> frozenset[str]:
    asked = frozenset(part.strip() for part in value.split(",") if part.strip())
    unknown = sorted(asked - frozenset(TRIGGERS))
    if unknown or not asked:
        raise click.BadParameter(f"takes {' and '.join(TRIGGERS)}, separated by a comma", ctx, parameter)
    return asked


def _places(ctx: click.Context, external_url: str, route_prefix: str | None) -> Places:
    try:
        places(external_url)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--web.external-url") from None
    try:
        return places(external_url, route_prefix)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--web.route-prefix") from None


@click.command()
@click.argument("config")
@click.option(
    "--web.listen-address",
    "--listen",
    "listen",
    multiple=True,
    default=("127.0.0.1:9876",),
    show_default=True,
    metavar="HOST:PORT",
    envvar="WATCHBILL_WEB_LISTEN_ADDRESS",
    show_envvar=True,
    help="Where metrics, pages and the API are served. May be given several times.",
)
@click.option(
    "--web.systemd-socket",
    "systemd_socket",
    is_flag=True,
    envvar="WATCHBILL_WEB_SYSTEMD_SOCKET",
    show_envvar=True,
    help="Serve on the sockets that systemd hands over, instead of --web.listen-address.",
)
@click.option(
    "--web.config.file",
    "web_config",
    default="",
    metavar="FILE",
    envvar="WATCHBILL_WEB_CONFIG_FILE",
    show_envvar=True,
    help="TLS, users, headers and rate limit, in Prometheus' format; read again when it changes.",
)
@click.option(
    "--web.external-url",
    "external_url",
    default="",
    metavar="URL",
    envvar="WATCHBILL_WEB_EXTERNAL_URL",
    show_envvar=True,
    help="How it is reached from outside, such as through a proxy.",
)
@click.option(
    "--web.route-prefix",
    "route_prefix",
    metavar="PATH",
    envvar="WATCHBILL_WEB_ROUTE_PREFIX",
    show_envvar=True,
    help="Below which path everything is served; by default the path of --web.external-url.",
)
@click.option(
    "--web.enable-lifecycle",
    "enable_lifecycle",
    is_flag=True,
    envvar="WATCHBILL_WEB_ENABLE_LIFECYCLE",
    show_envvar=True,
    help="Allow POST /-/reload.",
)
@click.option(
    "--storage",
    default="watchbill.duckdb",
    show_default=True,
    metavar="PATH|URL",
    envvar="WATCHBILL_STORAGE",
    show_envvar=True,
    help="Where history is kept; memory: keeps it in memory only.",
)
@click.option(
    "--reload-on",
    default="signal",
    show_default=True,
    metavar="signal[,change]",
    callback=_triggers,
    envvar="WATCHBILL_RELOAD_ON",
    show_envvar=True,
    help="What makes it read CONFIG again: SIGHUP, and a change of its content.",
)
@click.option(
    "--allow-mass-delete",
    is_flag=True,
    envvar="WATCHBILL_ALLOW_MASS_DELETE",
    show_envvar=True,
    help="Let a reload delete more than half of the checks (and more than ten).",
)
@click.option(
    "--location",
    default="",
    metavar="NAME",
    envvar="WATCHBILL_LOCATION",
    show_envvar=True,
    help="Where this exporter stands: the label location of every series.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="WATCHBILL_LOG_LEVEL",
    show_envvar=True,
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    default="auto",
    show_default=True,
    envvar="WATCHBILL_LOG_FORMAT",
    show_envvar=True,
    help="auto is console on a terminal, else json.",
)
@click.pass_context
def run(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    config: str,
    listen: tuple[str, ...],
    systemd_socket: bool,
    web_config: str,
    external_url: str,
    route_prefix: str | None,
    enable_lifecycle: bool,
    storage: str,
    reload_on: frozenset[str],
    allow_mass_delete: bool,
    location: str,
    log_level: str,
    log_format: str,
) -> None:
    """Probe what CONFIG declares, keep history, serve metrics.

    SIGHUP reads CONFIG again, SIGTERM and SIGINT end it after what was probed is stored.

    Exit code: 0 after SIGTERM or SIGINT, 1 port or storage taken, 2 CONFIG or the web configuration not valid.
    """
    if systemd_socket and ctx.get_parameter_source("listen") is not ParameterSource.DEFAULT:
        raise click.UsageError("--web.systemd-socket and --web.listen-address exclude each other", ctx)
    from watchbill.serve import Options  # noqa: PLC0415 - --help needs no exporter

    options = Options(
        config=config,
        listen=listen,
        storage=storage,
        reload_on=reload_on,
        enable_lifecycle=enable_lifecycle,
        log_level=log_level,
        log_format=log_format,
        location=location,
        allow_mass_delete=allow_mass_delete,
        web_config=web_config,
        systemd_socket=systemd_socket,
        places=_places(ctx, external_url, route_prefix),
    )
    ctx.exit((ctx.find_object(Outside) or Outside()).serve(options))
