"""Files of people: taken in, checked, kept, handed out again. (Reading them comes later.)"""
