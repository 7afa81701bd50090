package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one config error and its place.
type Problem struct {
	// File is the name of the file. It is empty for a Config that a program built.
	File string
	// Line counts from 1. It is 0 if there is no file. A missing key has the line of the mapping that it is missing
	// from.
	Line int
	// Path is the path of the value, such as flows[0].topics[1]. It is empty if the problem concerns the whole file.
	Path string
	// Text says what is wrong and what to do. It never contains a secret.
	Text string
}

// String formats the problem as "file:line: path: text", without the parts that are unknown.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error holds all problems of a config, ordered by line. It has at least one Problem.
type Error struct {
	Problems []Problem
}

// Error returns one line per problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// errorOf returns an *Error with all problems, or nil if there are none. It sorts the problems.
func errorOf(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	return &Error{Problems: problems}
}

// Nearest returns the candidate that is most likely meant by name, or "" if none is close.
func Nearest(name string, candidates []string) string {
	best, bestDistance := "", max(1, min(3, len(name)/2))+1
	for _, c := range candidates {
		if max(len(c)-len(name), len(name)-len(c)) >= bestDistance {
			continue // there may be a hundred thousand
		}
		if d := distance(strings.ToLower(name), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the edit distance of a and b: the number of letters to insert, delete, replace or swap with their
// neighbor.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
