"""The networks: one folder a family, `heads` for what families share, `base` for the records between them."""
