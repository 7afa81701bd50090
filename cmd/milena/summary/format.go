package summary

import (
	"fmt"
	"strings"
	"time"
)

// Count is n with the noun in its singular or plural.
func Count[N ~int | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Size is a number of bytes with a decimal unit, such as 3.5 kB.
func Size[N ~int64 | ~float64](n N) string {
	f := float64(n)
	if f < 1000 {
		return fmt.Sprintf("%.0f B", f)
	}
	f /= 1000
	for _, unit := range []string{"kB", "MB", "GB"} {
		if f < 1000 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		f /= 1000
	}
	return fmt.Sprintf("%.1f TB", f)
}

// Ago says how old something is.
func Ago(age time.Duration) string {
	age = max(0, age).Round(time.Second)
	if age < 2*time.Minute {
		return fmt.Sprintf("%.0f s ago", age.Seconds())
	}
	return fmt.Sprintf("%v ago", age)
}

// LocalTime is a moment in the reader's time zone, to the second.
func LocalTime(at time.Time) string { return at.Local().Format(time.DateTime) }
