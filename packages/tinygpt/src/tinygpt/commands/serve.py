"""Module 20, capstone: the command `tinygpt serve`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


@click.command(
    "serve", cls=NamesOptions, epilog=examples("tinygpt serve", "tinygpt serve runs/my-run --port 8080 --plugin int8")
)
@run_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on; 0.0.0.0 for all")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one")
@click.option("--name", help="the model's id [default: the folder's name]")
@click.option("--api-key", envvar="TINYGPT_API_KEY", show_envvar=True, help="what clients must send as a bearer token")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="another host name under which clients reach this server",
)
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="URL", help="a web page elsewhere whose requests are answered"
)
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 1024), help="texts generated together")
@click.option(
    "--queue",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="texts that may wait; more are refused (429)",
)
@click.option("--timeout", default=600, show_default=True, type=click.IntRange(1), help="seconds for a request")
@click.option("--body", default=1024, show_default=True, type=click.IntRange(1, 1 << 20), help="largest request, in KB")
@click.option("--reuse", default=256, show_default=True, type=click.IntRange(0), help="MB of prompts that are kept")
@plugin_option
@threads_option
def command(
    run_folder: Path | None,
    host: str,
    port: int,
    name: str | None,
    api_key: str | None,
    names: tuple[str, ...],
    origins: tuple[str, ...],
    batch: int,
    queue: int,
    timeout: int,
    body: int,
    reuse: int,
    plugins: tuple[str, ...],
) -> None:
    """Answer requests in OpenAI's form, and show a page.

    RUN is a run folder, or a folder in Hugging Face's format; by default the newest run with a model.
    """
    try:
        import h11  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise TinyTorchError(
            "serving needs starlette and uvicorn; install them: pip install 'tinygpt[serve]'"
        ) from None
    if api_key is not None and not api_key.strip():
        raise TinyTorchError("--api-key is empty; give a key, or leave it out")
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tinygpt.runs import RunFolder
        from tinygpt.server.api import Settings
        from tinygpt.server.engine import Limits
        from tinygpt.server.guard import Policy
        from tinygpt.server.run import address_of, listening, serve

        folder = RunFolder.open(run_folder, with_model=True)
        gpt = TinyGPT.load(folder.path)
        settings = Settings(
            name or folder.path.resolve().name or "tinygpt",
            Policy(host, names, origins, api_key and api_key.strip()),
            Limits(batch, max(queue, batch), timeout, reuse),
            body << 10,
        )
        with listening(host, port) as listener:
            say(f"{settings.name} answers at {address_of(listener)} (a page) and {address_of(listener)}/v1")
            if host not in ("127.0.0.1", "localhost", "::1") and api_key is None:
                say("everyone who reaches this address may ask: there is no --api-key")
            serve(gpt, settings, listener)
