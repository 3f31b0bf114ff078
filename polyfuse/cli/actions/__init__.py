"""What commands do, a file each, imported when one is run: a request enters; text and files leave."""
