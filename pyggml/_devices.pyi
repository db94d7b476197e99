"""Devices other than the CPU. The module is optional: guard the import."""

from typing import TypedDict

class Device(TypedDict):
    backend: str
    name: str
    memory: int
    driver: str

def devices() -> list[Device]:
    """CUDA and OpenCL devices; an empty list without drivers."""
