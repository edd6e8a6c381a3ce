"""Certificates and findings as one static, self-contained HTML page, and the ledger as Markdown."""

from whp.report.ledger import ledger, ledger_page
from whp.report.page import Card, page, svg

__all__ = ["Card", "ledger", "ledger_page", "page", "svg"]
