"""From parsed arguments to a page that is served until Ctrl-C."""

import argparse
import os
import threading

import gradio as gr

from srum_jax.demo import showing
from srum_jax.demo.opening import open_engine, warm_up
from srum_jax.demo.page import Page
from srum_jax.demo.settings import DemoSettings
from srum_jax.errors import BadInput
from srum_jax.model_arguments import device_failures

# The theme's own would be fetched from another host.
_FONTS, _FIXED_FONTS = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]


def serve(arguments: argparse.Namespace, settings: DemoSettings) -> int:
    """Opens the page and keeps it open; returns the exit code.

    Raises:
      BadInput: the address cannot be listened at, or a checkpoint cannot be used.
    """
    with device_failures():
        engines = [open_engine(path, arguments, settings)
                   for path in (arguments.checkpoint, arguments.against) if path is not None]
    page = Page(engines, settings, arguments.num_candidates, arguments.max_upload_mb)
    launch(page, arguments.host, arguments.port)
    print(f"open http://{arguments.host}:{arguments.port} in a browser; Ctrl-C closes the page", flush=True)
    try:
        warm_up(engines, arguments.num_candidates)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("closed", flush=True)
    finally:
        page.blocks.close(verbose=False)
    return 0


def launch(page: Page, host: str, port: int) -> None:
    """Starts to serve a page, in threads of its own.

    Raises:
      BadInput: the address cannot be listened at.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing is sent to anybody
    try:
        page.blocks.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
            footer_links=[], show_error=False, max_file_size=int(page.max_upload_bytes), enable_monitoring=False,
            head=f"<style>{showing.CSS}</style>", theme=gr.themes.Default(font=_FONTS, font_mono=_FIXED_FONTS))
    except OSError as error:
        raise BadInput(f"--host {host} --port {port}: expected an address that is free, found: {error}; choose "
                       "another.") from error
