"""The pools of this machine."""
