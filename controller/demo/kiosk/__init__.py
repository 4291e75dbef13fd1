"""A kiosk: the small service that `pulpcov demo` measures."""
