"""Figures in few characters."""


def short_count(count: float) -> str:
    """Returns a count in at most five characters: 123, 1.2k, 45.6k, 789k, 1.2M."""
    for limit, divisor, unit in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if count < limit:
            value = count / divisor
            return f"{value:.0f}{unit}" if not unit or value >= 100 else f"{value:.1f}{unit}"
    return f"{count / 1e9:.1f}G"


def format_duration(seconds: float) -> str:
    """Returns 1:05 or 2:03:04."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
