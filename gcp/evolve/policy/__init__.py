"""Which widths should change, by spectra or by a budget; nothing here edits the model that it is asked about."""
