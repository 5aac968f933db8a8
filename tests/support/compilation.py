"""How XLA compiles in the tests: for eight simulated devices, and with few optimizations."""

from parity.compilation import FAST

__all__ = ["DEVICES", "FAST"]

DEVICES = "--xla_force_host_platform_device_count=8"
