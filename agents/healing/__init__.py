"""From causes to repairs: choose, guard, carry out, see whether it helped."""
