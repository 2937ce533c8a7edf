"""As `ultralytics.engine`."""
