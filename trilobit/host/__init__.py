"""The host's side of a board: one driver over a serial port, a simulated board, or mapped registers."""

from trilobit.host.board import Board, Identity
from trilobit.host.link import LinkClient
from trilobit.host.transport import LineLostError, Transport

__all__ = ["Board", "Identity", "LineLostError", "LinkClient", "Transport"]
