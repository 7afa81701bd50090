package switching

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Times are how long each step took, by its name.
type Times map[string][]time.Duration

var stepLine = regexp.MustCompile(`^  (\w+) +ok +(\d+\.\d+s)  `)

// Add takes the steps of an outcome.
func (t Times) Add(o *Outcome) error {
	for _, line := range o.Lines {
		m := stepLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		took, err := time.ParseDuration(m[2])
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		t[m[1]] = append(t[m[1]], took)
	}
	return nil
}

// buckets are the upper bounds of the histogram, exclusive.
func buckets() []time.Duration {
	return []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second}
}

// String is a histogram: a row for each step.
func (t Times) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%-8s", "step")
	for _, b := range buckets() {
		fmt.Fprintf(&s, " %8s", "< "+b.String())
	}
	fmt.Fprintf(&s, " %8s %8s", "more", "longest")
	for _, step := range slices.Sorted(maps.Keys(t)) {
		counts := make([]int, len(buckets())+1)
		for _, took := range t[step] {
			i, _ := slices.BinarySearch(buckets(), took+1)
			counts[i]++
		}
		fmt.Fprintf(&s, "\n%-8s", step)
		for _, n := range counts {
			fmt.Fprintf(&s, " %8d", n)
		}
		fmt.Fprintf(&s, " %8s", slices.Max(t[step]))
	}
	return s.String()
}
