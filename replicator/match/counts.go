package match

// counts is a set of numbers, as ascending ranges that do not touch.
type counts []countRange

// countRange is a range of numbers, both inclusive.
type countRange struct{ from, to int64 }

// single returns the number of a set that has only one.
func (c counts) single() (number int64, ok bool) {
	if len(c) == 1 && c[0].from == c[0].to {
		return c[0].from, true
	}
	return 0, false
}

// has reports whether the set has a number.
func (c counts) has(number int64) bool {
	for _, r := range c {
		if r.from <= number && number <= r.to {
			return true
		}
	}
	return false
}

// add adds a range, inclusive, that does not begin before the last one.
func (c counts) add(from, to int64) counts {
	if n := len(c); n > 0 && from <= c[n-1].to+1 {
		c[n-1].to = max(c[n-1].to, to)
		return c
	}
	return append(c, countRange{from, to})
}

// without returns the set without its largest number.
func (c counts) without(largest int64) counts {
	n := len(c) - 1
	switch {
	case n < 0 || c[n].to != largest:
		return c
	case c[n].from == largest:
		return c[:n]
	}
	rest := append(counts(nil), c...)
	rest[n].to--
	return rest
}

// latest returns the largest number of the set from from to to, inclusive.
func (c counts) latest(from, to int64) (number int64, ok bool) {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].from <= to && c[i].to >= from {
			return min(c[i].to, to), true
		}
	}
	return 0, false
}
