package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// javaPattern translates a Java regular expression into a Go one that matches the same names, or says why it cannot.
// It must not miss syntax that both accept but read differently, such as classes within classes, or braces that are
// not a count.
func javaPattern(pattern string) (translated, why string) {
	translated, _, why = javaPatternIn(pattern, "")
	return translated, why
}

// javaPatternIn does so where flags hold already, and returns those that hold after it.
func javaPatternIn(pattern, flags string) (translated, after, why string) {
	t := translator{rest: pattern, flags: flags}
	for t.rest != "" && why == "" {
		why = t.step()
	}
	if why == "" && t.class {
		why = "has a [ without ]"
	}
	if why != "" {
		return "", "", why
	}
	if _, text := compile(t.out.String()); text != "" {
		_, reason, _ := strings.Cut(text, " is not valid: ")
		return "", "", "is not a valid regular expression: " + reason
	}
	return flagged(flags, t.out.String()), t.flags, ""
}

// translator translates one pattern.
type translator struct {
	rest string
	out  strings.Builder
	// class is set between [ and ].
	class bool
	// counted is set after a quantifier, where a + would make it possessive.
	counted bool
	// flags are those that hold outside of all groups.
	flags string
	depth int // of groups
}

// copyBytes moves n bytes from the pattern to the result.
func (t *translator) copyBytes(n int) {
	t.out.WriteString(t.rest[:n])
	t.rest = t.rest[n:]
}

var (
	repeat = regexp.MustCompile(`^\{[0-9]+(,[0-9]*)?\}`)
	flags  = regexp.MustCompile(`^\(\?([a-zA-Z]*)-?([a-zA-Z]*)[:)]`)
	code   = regexp.MustCompile(`^\\u([0-9a-fA-F]{4})`)
	braced = regexp.MustCompile(`^\\[pPx]\{[^}]*\}`)
	// In Java these are ASCII classes, which Go writes as [[:alpha:]].
	posix = regexp.MustCompile(`^\\([pP])\{(Lower|Upper|ASCII|Alpha|Digit|Alnum|Punct|Graph|Print|Blank|Cntrl|XDigit|Space)\}`)
)

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
		t.copyBytes(1)
		if strings.HasPrefix(t.rest, "^") {
			t.copyBytes(1)
		}
	case strings.HasPrefix(t.rest, "(?"):
		return t.group()
	case c == '{':
		count := repeat.FindString(t.rest)
		if count == "" {
			return "has a { that is not a count; note that a comma splits the list, also inside {1,2}"
		}
		t.copyBytes(len(count))
		t.counted = true
	case c == '(':
		t.depth++
		t.copyBytes(1)
	case c == ')':
		t.depth--
		t.copyBytes(1)
	case c == '+' && counted:
		return "has a possessive quantifier, which only Java supports; remove the second +"
	case c == '*' || c == '+' || c == '?':
		t.copyBytes(1)
		t.counted = !counted
	default:
		_, n := utf8.DecodeRuneInString(t.rest)
		t.copyBytes(n)
	}
	return ""
}

func (t *translator) inClass() (why string) {
	switch {
	case t.rest[0] == '[':
		return "has a class inside a class, which only Java supports; use one class"
	case strings.HasPrefix(t.rest, "&&"):
		return "has && in a class, which only Java supports; list the characters"
	}
	if t.rest[0] == ']' {
		t.class = false
	}
	_, n := utf8.DecodeRuneInString(t.rest)
	t.copyBytes(n)
	return ""
}

func (t *translator) group() (why string) {
	for _, prefix := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		if strings.HasPrefix(t.rest, prefix) {
			return "has the lookaround " + prefix + ", which only Java supports"
		}
	}
	if strings.HasPrefix(t.rest, "(?>") {
		return "has an atomic group (?>, which only Java supports; use (?:"
	}
	if found := flags.FindStringSubmatch(t.rest); found != nil && strings.ContainsAny(found[1]+found[2], "dxuU") {
		return fmt.Sprintf("has the flags %s, which only Java supports; use i, m and s", found[0])
	}
	if found := flags.FindString(t.rest); strings.HasSuffix(found, ")") && strings.IndexAny(t.rest[len(found):], "*+?{") == 0 {
		return "has a quantifier after the flags " + found + "; move it after what it repeats"
	}
	if found := leadingFlags.FindStringSubmatch(t.rest); found != nil { // they hold to the end of the group
		if t.depth == 0 {
			t.flags = withFlags(t.flags, found[1], found[2])
		}
		t.copyBytes(len(found[0]))
		return ""
	}
	t.depth++
	t.copyBytes(2)
	return ""
}

func (t *translator) escape() (why string) {
	if len(t.rest) == 1 {
		return "ends with a backslash; write two, because a properties file drops single ones"
	}
	switch c := t.rest[1]; {
	case c == 'Q':
		end := strings.Index(t.rest, `\E`)
		if end < 0 {
			end = len(t.rest) - 2
		}
		t.copyBytes(end + 2)
	case (c >= '1' && c <= '9' || c == 'k') && !t.class:
		return fmt.Sprintf(`has the backreference \%c, which only Java supports; list the alternatives`, c)
	case code.MatchString(t.rest):
		t.out.WriteString(`\x{` + t.rest[2:6] + `}`)
		t.rest = t.rest[6:]
	case strings.HasPrefix(t.rest, `\b{`), strings.IndexByte("ZGRXhHvVeNc0u", c) >= 0:
		return fmt.Sprintf(`has \%c, which only Java supports`, c)
	case posix.MatchString(t.rest):
		t.posixClass(posix.FindStringSubmatch(t.rest))
	case braced.MatchString(t.rest):
		t.copyBytes(len(braced.FindString(t.rest)))
	default:
		_, n := utf8.DecodeRuneInString(t.rest[1:])
		t.copyBytes(1 + n)
	}
	return ""
}

func (t *translator) posixClass(found []string) {
	class := "[:" + strings.ToLower(found[2]) + ":]"
	if found[1] == "P" {
		class = "[:^" + class[len("[:"):]
	}
	if !t.class {
		class = "[" + class + "]"
	}
	t.out.WriteString(class)
	t.rest = t.rest[len(found[0]):]
}
