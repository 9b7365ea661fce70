"""Structs with abstract methods: one that lacks a method cannot be made."""

from __future__ import annotations

from abc import ABCMeta

from msgspec import StructMeta


class AbstractStructMeta(StructMeta, ABCMeta):
    """`class Base(msgspec.Struct, metaclass=AbstractStructMeta)`."""
