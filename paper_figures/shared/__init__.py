"""What several figures share; no figures stand here."""
