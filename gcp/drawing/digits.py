"""Numbers in few digits."""


def power(value: float) -> str:
    """`3e-7`, one digit; `0` for zero."""
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}" if value else "0"
