"""Sets of pictures measured against references: FID and its kin, streamed over tens of thousands of pictures."""
