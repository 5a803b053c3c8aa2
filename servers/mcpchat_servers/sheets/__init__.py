"""Google Sheets: sheets listed, ranges read and written, rows appended, spreadsheets and sheets made."""
