"""As `ultralytics.models`."""
