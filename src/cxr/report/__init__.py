"""The report: is transfer worth it, what did each phase gain, can it be believed?"""
