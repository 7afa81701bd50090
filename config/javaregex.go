package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// javaPattern turns a regular expression of Java into one of Go that matches the same names, or says why there is none.
// What both accept and read differently (classes in classes, braces that are no count) must not pass unseen.
func javaPattern(pattern string) (translated, why string) {
	t := translator{rest: pattern}
	for t.rest != "" && why == "" {
		why = t.step()
	}
	if why == "" && t.class {
		why = "has a [ without ]"
	}
	if why != "" {
		return "", why
	}
	if _, text := compile(t.out.String()); text != "" {
		_, said, _ := strings.Cut(text, " is not valid: ")
		return "", "is no regular expression: " + said
	}
	return t.out.String(), ""
}

// translator goes through one pattern.
type translator struct {
	rest string
	out  strings.Builder
	// class is true between [ and ].
	class bool
	// counted is true after a quantifier: a + would make it possessive.
	counted bool
}

// take moves n bytes to the result.
func (t *translator) take(n int) {
	t.out.WriteString(t.rest[:n])
	t.rest = t.rest[n:]
}

var (
	repeat = regexp.MustCompile(`^\{[0-9]+(,[0-9]*)?\}`)
	flags  = regexp.MustCompile(`^\(\?([a-zA-Z]*)-?([a-zA-Z]*)[:)]`)
	code   = regexp.MustCompile(`^\\u([0-9a-fA-F]{4})`)
	braced = regexp.MustCompile(`^\\[pPx]\{[^}]*\}`)
)

const noLooking = "looks ahead or back with %s, which only Java can; say what to copy and what not with the list and its .exclude"

func (t *translator) step() (why string) {
	counted := t.counted
	t.counted = false
	switch c := t.rest[0]; {
	case c == '\\':
		return t.escape()
	case t.class:
		return t.inClass()
	case c == '[':
		t.class = true
		t.take(1)
		if strings.HasPrefix(t.rest, "^") {
			t.take(1)
		}
	case strings.HasPrefix(t.rest, "(?"):
		return t.group()
	case c == '{':
		count := repeat.FindString(t.rest)
		if count == "" {
			return "has a { that begins no count; a comma splits the list, also inside {1,2}"
		}
		t.take(len(count))
		t.counted = true
	case c == '+' && counted:
		return "has a possessive quantifier, which only Java has; remove its second +"
	case c == '*' || c == '+' || c == '?':
		t.take(1)
		t.counted = !counted
	default:
		_, n := utf8.DecodeRuneInString(t.rest)
		t.take(n)
	}
	return ""
}

func (t *translator) inClass() (why string) {
	switch {
	case t.rest[0] == '[':
		return "has a class inside a class, which only Java has; write one class"
	case strings.HasPrefix(t.rest, "&&"):
		return "has && in a class, which only Java has; write the characters out"
	}
	if t.rest[0] == ']' {
		t.class = false
	}
	_, n := utf8.DecodeRuneInString(t.rest)
	t.take(n)
	return ""
}

func (t *translator) group() (why string) {
	for _, looking := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		if strings.HasPrefix(t.rest, looking) {
			return fmt.Sprintf(noLooking, looking)
		}
	}
	if strings.HasPrefix(t.rest, "(?>") {
		return "has an atomic group (?>, which only Java has; write (?:"
	}
	if found := flags.FindStringSubmatch(t.rest); found != nil && strings.ContainsAny(found[1]+found[2], "dxuU") {
		return fmt.Sprintf("has the flags %s, which only Java has; use i, m and s", found[0])
	}
	if found := flags.FindString(t.rest); strings.HasSuffix(found, ")") && strings.IndexAny(t.rest[len(found):], "*+?{") == 0 {
		return "has a count behind the flags " + found + "; put it behind what is counted"
	}
	t.take(2)
	return ""
}

func (t *translator) escape() (why string) {
	if len(t.rest) == 1 {
		return "ends with a backslash; a properties file drops single ones, write two"
	}
	switch c := t.rest[1]; {
	case c == 'Q':
		end := strings.Index(t.rest, `\E`)
		if end < 0 {
			end = len(t.rest) - 2
		}
		t.take(end + 2)
	case (c >= '1' && c <= '9' || c == 'k') && !t.class:
		return fmt.Sprintf(`has the backreference \%c, which only Java can; write the alternatives out`, c)
	case code.MatchString(t.rest):
		t.out.WriteString(`\x{` + t.rest[2:6] + `}`)
		t.rest = t.rest[6:]
	case strings.HasPrefix(t.rest, `\b{`), strings.IndexByte("ZGRXhHvVeNc0u", c) >= 0:
		return fmt.Sprintf(`has \%c, which only Java has`, c)
	case braced.MatchString(t.rest):
		t.take(len(braced.FindString(t.rest)))
	default:
		_, n := utf8.DecodeRuneInString(t.rest[1:])
		t.take(1 + n)
	}
	return ""
}
