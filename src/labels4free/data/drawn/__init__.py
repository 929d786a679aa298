"""Drawn objects of one class over cluttered backgrounds, with exact masks: data without a licence, in any amount."""
