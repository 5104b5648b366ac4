"""What the machine does, measured: the case study's tables by day and by night, the swap, and one report of it all."""
