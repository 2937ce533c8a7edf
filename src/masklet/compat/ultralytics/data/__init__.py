"""As `ultralytics.data`."""
