"""Other Sparks: what they may ask here, what is asked of them, and how one becomes a peer."""
