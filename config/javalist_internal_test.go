package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// answered is a list of expressions, and the names that Java selects with it.
type answered struct {
	list     string
	valid    bool
	selected []bool // by name
}

// javaAnswers reads what testdata/javaregex/Answers.java printed.
func javaAnswers(t *testing.T) (names []string, answers []answered) {
	t.Helper()
	data, err := os.ReadFile("testdata/javaregex/answers.txt")
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	names = strings.Fields(first)
	for line := range strings.Lines(rest) {
		list, bits, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			t.Fatalf("no tab in %q", line)
		}
		a := answered{list: list, valid: bits != "invalid"}
		for i := range names {
			if a.valid {
				a.selected = append(a.selected, strings.IndexByte("0123456789abcdef", bits[i/4])>>(3-i%4)&1 == 1)
			}
		}
		answers = append(answers, a)
	}
	return names, answers
}

// Every list that is accepted selects what Java selects, in all places that people put lookarounds and flags in.
func TestJavaListsSelectWhatJavaSelects(t *testing.T) {
	names, answers := javaAnswers(t)
	accepted, rewritten := 0, 0
	for _, a := range answers {
		list, problems := readJavaList(splitList(a.list), topicCharacters)
		if len(problems) > 0 {
			continue
		}
		if accepted++; len(list.exclude) > 0 {
			rewritten++
		}
		if !a.valid {
			t.Errorf("%s is not valid in Java, and becomes %+v", a.list, list)
			continue
		}
		include, exclude := compileAll(t, list.include), compileAll(t, list.exclude)
		for i, name := range names {
			matches := func(re *regexp.Regexp) bool { return re.MatchString(name) }
			if got := slices.ContainsFunc(include, matches) && !slices.ContainsFunc(exclude, matches); got != a.selected[i] {
				t.Errorf("%s becomes %q without %q: %q is selected: %v", a.list, list.include, list.exclude, name, got)
				break
			}
		}
	}
	if accepted < 800 || rewritten < 500 {
		t.Errorf("of %d lists, %d are accepted and %d rewritten", len(answers), accepted, rewritten)
	}
}

func compileAll(t *testing.T, list []string) (all []*regexp.Regexp) {
	t.Helper()
	for _, pattern := range list {
		re, why := compile(pattern)
		if why != "" {
			t.Fatal(why)
		}
		all = append(all, re)
	}
	return all
}

// The expressions that guides recommend become lists that a person would write.
func TestReadJavaList(t *testing.T) {
	for list, want := range map[string]string{
		`(?!foo).*`:                `[".*"] without ["foo.*"]`,
		`^(?!.*\.internal$).*`:     `[".*"] without [".*\\.internal"]`,
		`.*(?<!-retry)`:            `[".*"] without [".*-retry"]`,
		`^((?!x|y).)*$`:            `[".*"] without [".*x.*" ".*y.*"]`,
		`^(?!__)(?!test|dev\.).*$`: `[".*"] without ["__.*" "test.*" "dev\\..*"]`,
		`^(?!(test|dev)$).+`:       `[".+"] without ["test" "dev"]`,
		`orders\.(?!tmp).*`:        `["orders\\..*"] without ["orders\\.tmp.*"]`,
		`(?i)(?!tmp).*, pay`:       `["(?i).*" "(?i)pay"] without ["(?i)tmp.*"]`,
		`(?!tmp)[a-z]+, __x`:       `["[a-z]+" "__x"] without ["tmp.*"]`,
		`^(?!test,dev).*`:          `[".*"] without ["test.*" "dev.*"]`,
		`(?=orders|pay).*`:         `["(?:orders.*|pay.*)"] without []`,
		`.*(?<=-eu)`:               `[".*-eu"] without []`,
		`orders, (?i)Pay, x`:       `["orders" "(?i)Pay" "(?i)x"] without []`,
		`(?i)a, (?-i)b`:            `["(?i)a" "(?i)(?-i)b"] without []`,
		`(?!test).*, test-keep`:    `the pattern "test-keep" selects "test-keep", which a lookaround leaves out elsewhere in the list: milena's excludes hold for the whole list, so use two flows, or leave it out; nearest is the list [".*" "test-keep"] without ["test.*"]`,
		`.*(?!test).*`:             `the pattern ".*(?!test).*" has the lookaround (?! in a place where it cannot be rewritten; write what to select into the list and what to leave out into its .exclude`,
		`(?!(a)\1).*`:              `the pattern "(?!(a)\\1).*" has the backreference \1, which only Java supports; list the alternatives`,
		`(orders|(?!pay).*)\.v1`:   `the pattern "(orders|(?!pay).*)\\.v1" has the lookaround (? in a place where it cannot be rewritten; write what to select into the list and what to leave out into its .exclude`,
		`a(?i)(?!b).*`:             `the pattern "a(?i)(?!b).*" has flags beside a lookaround; move the flags to the beginning`,
	} {
		got, problems := readJavaList(splitList(list), topicCharacters)
		text := strings.Join(problems, "\n")
		if len(problems) == 0 {
			text = fmt.Sprintf("%q without %q", got.include, got.exclude)
		}
		if text != want {
			t.Errorf("%s\n got %s\nwant %s", list, text, want)
		}
	}
}
