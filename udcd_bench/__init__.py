"""Does that distillation paper hold? The engine of a reproduction benchmark of UDCD (MICCAI 2024)."""

__version__ = "0.1.0"
