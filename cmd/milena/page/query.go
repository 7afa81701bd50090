package page

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// DefaultLimit is how many rows an answer has unless the request says otherwise, and maxLimit how many at most.
	defaultLimit = 100
	maxLimit     = 500
)

// query is what a request for rows asks for.
type query struct {
	search        string // in lower case
	sort          string
	desc          bool
	offset, limit int
}

// readQuery reads a query. Sorts are the names of the columns that rows can be sorted by, the default first.
func readQuery(values url.Values, sorts []string) (q query, err error) {
	for name := range values {
		if !slices.Contains([]string{"search", "sort", "desc", "offset", "limit"}, name) {
			return q, fmt.Errorf("there is no parameter %q; there are search, sort, desc, offset and limit", name)
		}
	}
	q = query{search: strings.ToLower(values.Get("search")), sort: cmp.Or(values.Get("sort"), sorts[0])}
	if !slices.Contains(sorts, q.sort) {
		return q, fmt.Errorf("sort %q is none of %s", q.sort, strings.Join(sorts, ", "))
	}
	if text := values.Get("desc"); text != "" {
		if q.desc, err = strconv.ParseBool(text); err != nil {
			return q, fmt.Errorf("desc %q is neither true nor false", text)
		}
	}
	if q.offset, err = number(values.Get("offset"), 0); err != nil || q.offset < 0 {
		return q, fmt.Errorf("offset %q is not a number from 0 on", values.Get("offset"))
	}
	if q.limit, err = number(values.Get("limit"), defaultLimit); err != nil || q.limit < 1 || q.limit > maxLimit {
		return q, fmt.Errorf("limit %q is not a number from 1 to %d", values.Get("limit"), maxLimit)
	}
	return q, nil
}

func number(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	return strconv.Atoi(text)
}

// finds reports whether one of some texts has what is searched.
func (q *query) finds(texts ...string) bool {
	return q.search == "" || slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), q.search) })
}

// order compares two rows by a column. A value that is not known comes last in either direction.
type order[T any] func(a, b T, desc bool) int

// by compares rows by a value that is always known.
func by[T any, V cmp.Ordered](value func(T) V) order[T] {
	return func(a, b T, desc bool) int {
		if desc {
			a, b = b, a
		}
		return cmp.Compare(value(a), value(b))
	}
}

// byKnown compares rows by a value that may not be known.
func byKnown[T any, V cmp.Ordered](value func(T) *V) order[T] {
	return func(a, b T, desc bool) int {
		switch x, y := value(a), value(b); {
		case x == nil && y == nil:
			return 0
		case x == nil:
			return 1
		case y == nil:
			return -1
		case desc:
			return cmp.Compare(*y, *x)
		default:
			return cmp.Compare(*x, *y)
		}
	}
}

// Rows is a part of a sorted list.
type Rows[T any] struct {
	// Total counts the rows that match, and Rows are those from the offset on.
	Total int `json:"total"`
	Rows  []T `json:"rows"`
	// Note says why these are not all rows that there are, absent if they are.
	Note string `json:"note,omitempty"`
}

// table is a list that can be asked for by pages: rows of one flow, made of items that are cheaper than rows.
type table[T, R any] struct {
	orders map[string]order[T]
	first  string // the column by which it is sorted unless a request says otherwise, and among equals
}

func (t *table[T, R]) sorts() []string {
	return append([]string{t.first}, slices.DeleteFunc(slices.Sorted(maps.Keys(t.orders)), func(s string) bool { return s == t.first })...)
}

// page sorts the items that match, and makes rows of those that are asked for.
func (t *table[T, R]) page(q query, matching []T, row func(T) R) Rows[R] {
	compare, first := t.orders[q.sort], t.orders[t.first]
	slices.SortStableFunc(matching, func(a, b T) int { return cmp.Or(compare(a, b, q.desc), first(a, b, false)) })
	from := min(q.offset, len(matching))
	to := min(from+q.limit, len(matching))
	r := Rows[R]{Total: len(matching), Rows: make([]R, 0, to-from)}
	for _, item := range matching[from:to] {
		r.Rows = append(r.Rows, row(item))
	}
	return r
}

// badQuery answers a request whose query is wrong.
func badQuery(w http.ResponseWriter, err error) { refuse(w, http.StatusBadRequest, "%v", err) }
