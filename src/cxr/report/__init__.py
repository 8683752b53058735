"""The report: is transfer worth it, what does each phase gain, and can the figures be trusted?"""
