package config

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestCommonName(t *testing.T) {
	for _, test := range []struct {
		in, out []string
		want    string
	}{
		{in: []string{"met.*", "metr.*"}, want: "metr"},
		{in: []string{"eu\\..*", "us\\..*"}, want: ""},
		{in: []string{"orders", "payments"}, want: ""},
		{in: []string{"orders", "ord.*"}, want: "orders"},
		{in: []string{".*", ".*"}, out: []string{".*"}, want: ""},
		{in: []string{"a.*", ".*b"}, want: "ab"},
		{in: []string{"a.*", ".*b"}, out: []string{"ab"}, want: "aab"},
		{in: []string{"(?i)orders", "[A-Z]+"}, want: "ORDERS"},
		{in: []string{`.*\bx\b.*`, `[a-z]+`}, want: "x"},
		{in: []string{`a{2}`, `a*`}, want: "aa"},
		{in: []string{`a{2}`, `a{3}`}, want: ""},
		{in: []string{""}, want: ""},
	} {
		got, known := commonName(test.in, test.out, topicCharacters)
		if !known || got != test.want {
			t.Errorf("%q without %q: got %q (known: %v), want %q", test.in, test.out, got, known, test.want)
		}
	}
	if _, known := commonName([]string{"("}, nil, topicCharacters); known {
		t.Error("something is known of an expression that is not valid")
	}
	if _, known := commonName([]string{"(a|b)*a(a|b){18}", "(a|b)*b(a|b){18}c"}, nil, topicCharacters); known {
		t.Error("the search has no bound")
	}
}

// The search agrees with trying all short names.
func TestCommonName_agreesWithTrying(t *testing.T) {
	const letters = "ab."
	var all []string
	for last := []string{""}; len(last[0]) < 5; {
		var longer []string
		for _, name := range last {
			for _, c := range letters {
				longer = append(longer, name+string(c))
			}
		}
		all, last = append(all, longer...), longer
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	parts := []string{"a", "b", `\.`, ".", ".*", "(a|b)", "[^a]", "a?", "b*", "(ab)+", `\b`, "a|b", "^", "$"}
	for range 2000 {
		random := func() (pattern string) {
			for range 1 + r.IntN(4) {
				pattern += parts[r.IntN(len(parts))]
			}
			return pattern
		}
		in, out := []string{random(), random()}, []string{random()}
		got, known := commonName(in, out, letters)
		if !known {
			continue
		}
		want := ""
		for _, name := range all {
			if matches(t, in[0], name) && matches(t, in[1], name) && !matches(t, out[0], name) {
				want = name
				break
			}
		}
		if len(want) != len(got) && (want != "" || len(got) <= 5) || got != "" && strings.Trim(got, letters) != "" {
			t.Fatalf("%q without %q: got %q, want %q (seed %d)", in, out, got, want, seed)
		}
		if got != "" && (!matches(t, in[0], got) || !matches(t, in[1], got) || matches(t, out[0], got)) {
			t.Fatalf("%q without %q: %q is wrong (seed %d)", in, out, got, seed)
		}
	}
}

func matches(t *testing.T, pattern, name string) bool {
	t.Helper()
	ok, err := regexp.MatchString("^(?:"+pattern+")$", name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestWidthOf(t *testing.T) {
	for pattern, want := range map[string]int{"": 0, "abc": 3, `a\.b`: 3, "[ab].": 2, "(ab|cd)x": 3, "a{3}": 3, "^ab$": 2, "a*": -1, "a?": -1, "a|bc": -1, "a{1,2}": -1} {
		got, fixed := widthOf(pattern)
		if !fixed {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", pattern, got, want)
		}
	}
}
