package instances

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Event is when a fault happened: from its beginning until everything that it hit took part again.
type Event struct {
	Kind         Kind
	Began, Ended time.Time
}

const (
	severalAtOnce = "several at once"
	noFault       = "no fault"
)

// Histogram is how long partitions stood still, by kind of fault: the longest standstill of each partition in each fault.
type Histogram map[string][]time.Duration

// newHistogram counts each standstill for the fault during which it began. What began before the first fault is not counted.
func newHistogram(events []Event, all []Standstill, partitions int) Histogram {
	h := Histogram{}
	longest := make([]map[int32]time.Duration, len(events))
	for _, s := range all {
		switch during := eventsDuring(events, s); {
		case len(events) == 0 || s.From.Before(events[0].Began):
		case len(during) == 0:
			h[noFault] = append(h[noFault], s.Took())
		case len(during) > 1 || !isSingle(events, during[0]):
			h[severalAtOnce] = append(h[severalAtOnce], s.Took())
		default:
			i := during[0]
			if longest[i] == nil {
				longest[i] = map[int32]time.Duration{}
			}
			longest[i][s.Partition] = max(longest[i][s.Partition], s.Took())
		}
	}
	for i, e := range events {
		for partition := range int32(partitions) {
			if isSingle(events, i) {
				h[string(e.Kind)] = append(h[string(e.Kind)], longest[i][partition])
			}
		}
	}
	return h
}

// A standstill may begin a little before the fault that causes it, with the last record that was copied, and a fault has effects for a while.
const early, late = 200 * time.Millisecond, time.Second

// eventsDuring are the events during which a standstill began.
func eventsDuring(events []Event, s Standstill) (during []int) {
	for i, e := range events {
		if s.From.After(e.Began.Add(-early)) && s.From.Before(e.Ended.Add(late)) {
			during = append(during, i)
		}
	}
	return during
}

// isSingle reports whether no other event happened at the same time.
func isSingle(events []Event, i int) bool {
	for j, e := range events {
		if i != j && e.Began.Before(events[i].Ended) && events[i].Began.Before(e.Ended) {
			return false
		}
	}
	return true
}

// list are the longest standstills, with the faults during which they began, as times since an instant.
func list(events []Event, all []Standstill, since time.Time) string {
	var text strings.Builder
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Standstill) int { return cmp.Compare(b.Took(), a.Took()) })
	for _, s := range sorted[:min(len(sorted), 500)] {
		var faults []string
		for _, i := range eventsDuring(events, s) {
			faults = append(faults, string(events[i].Kind))
		}
		_, _ = fmt.Fprintf(&text, "%6.2f s from %7.2f s (%s) partition %d: %s\n", // a strings.Builder never fails
			s.Took().Seconds(), s.From.Sub(since).Seconds(), s.From.UTC().Format("15:04:05.000"), s.Partition, strings.Join(faults, ", "))
	}
	return text.String()
}

// String is a table. A number is how many partitions stood still for up to so many seconds.
func (h Histogram) String() string {
	limits := []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 6 * time.Second, 8 * time.Second, 12 * time.Second, 20 * time.Second}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprint(table, "seconds\t") // a strings.Builder never fails
	for _, l := range limits {
		_, _ = fmt.Fprintf(table, "%v\t", l.Seconds())
	}
	_, _ = fmt.Fprint(table, "more\tmedian\t99 %\tlongest\t\n")
	for _, k := range slices.Sorted(maps.Keys(h)) {
		sorted := slices.Sorted(slices.Values(h[k]))
		counts := make([]int, len(limits)+1)
		for _, d := range sorted {
			i := 0
			for i < len(limits) && d > limits[i] {
				i++
			}
			counts[i]++
		}
		_, _ = fmt.Fprintf(table, "%s\t", k)
		for _, n := range counts {
			_, _ = fmt.Fprintf(table, "%d\t", n)
		}
		at := func(share float64) float64 {
			return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))].Seconds()
		}
		_, _ = fmt.Fprintf(table, "%.2f\t%.2f\t%.2f\t\n", at(0.5), at(0.99), sorted[len(sorted)-1].Seconds())
	}
	_ = table.Flush()
	return text.String()
}
