"""What the installed commands start that lies beside this package in a checkout, and inside it in a wheel (setup.py).

A wheel has these imports under their other names.
"""


def convert_weights() -> int:
    """`srum-convert-weights`."""
    from tools.convert_weights.__main__ import main

    return main()


def make_rewards() -> int:
    """`srum-rewards`."""
    from tools.make_rewards.__main__ import main

    return main()


def precompute_latents() -> int:
    """`srum-precompute-latents`."""
    from tools.precompute_latents.__main__ import main

    return main()


def evaluation_report() -> int:
    """`srum-evaluation-report`."""
    from tools.evaluation_report.__main__ import main

    return main()


def check_parity() -> int:
    """`srum-check-parity`."""
    from tools.check_parity.__main__ import main

    return main()


def tiny_methods() -> int:
    """`srum-tiny-methods`."""
    from experiments.tiny_methods import main

    return main()
