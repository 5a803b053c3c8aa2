"""Google Sheets server: list sheets, read and write ranges, append rows, create spreadsheets and sheets."""
