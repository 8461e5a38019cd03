"""Object stores: what a URL means, what is read and written there, and folders that are worked on here."""
