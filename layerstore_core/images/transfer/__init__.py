"""Images from and to archives and layouts."""
