"""Our own client on the wire protocol, for what ready-made clients have no words for."""
