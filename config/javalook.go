package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// alternative is one side of a | of a Java expression in Go's terms: names that match include and none of exclude.
type alternative struct {
	include string
	exclude []string
}

// takeApart rewrites an expression with lookarounds. A negative one becomes an exclude where the place at which it stands in a name is known:
//
//	(?!x)r          r without x.*
//	pre(?!x)r       pre r without pre x.*, if all that pre matches has the same length
//	r(?<!x)         r without .*x
//	r(?<!x)post     r post without .*x post, if all that post matches has the same length
//	((?!x).)*       .* without .*x.*
//	(?=x).*         x.*
//	.*(?<=x)        .*x
//
// Everything else is refused. The flags are those that hold before the expression and after it.
func takeApart(text, flags string) (list []alternative, after, why string) {
	for _, part := range splitJava(text) {
		var found []alternative
		if found, flags, why = takeAlternative(part, flags); why != "" {
			return nil, "", why
		}
		list = append(list, found...)
	}
	return list, flags, ""
}

var (
	// Flags at the beginning hold from there on.
	leadingFlags = regexp.MustCompile(`^\(\?([ims]*)(?:-([ims]*))?\)`)
	someFlags    = regexp.MustCompile(`\(\?[a-zA-Z-]+\)`)
)

func takeAlternative(text, flags string) (list []alternative, after, why string) {
	for {
		text = trimAnchors(text)
		found := leadingFlags.FindStringSubmatch(text)
		if found == nil {
			break
		}
		text, flags = text[len(found[0]):], withFlags(flags, found[1], found[2])
	}
	if inner, ok := unwrapJava(text); ok { // flags in a group end with it
		list, _, why = takeApart(inner, flags)
		return list, flags, why
	}
	if translated, after, why := javaPatternIn(text, flags); why == "" {
		return []alternative{{include: translated}}, after, ""
	}
	l := lookarounds{flags: flags, atoms: atomsOf(text)}
	found, why := l.rewrite()
	return []alternative{found}, flags, why
}

// withFlags adds and removes flags.
func withFlags(flags, add, remove string) string {
	for _, c := range add {
		if !strings.ContainsRune(flags, c) {
			flags += string(c)
		}
	}
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune(remove, c) {
			return -1
		}
		return c
	}, flags)
}

// flagged puts flags before an expression.
func flagged(flags, pattern string) string {
	if flags == "" {
		return pattern
	}
	return "(?" + flags + ")" + pattern
}

// lookarounds rewrites one alternative.
type lookarounds struct {
	flags string
	atoms []atom

	exclude []string
	// instead replaces the whole alternative, by a positive lookaround; nil if there is none.
	instead *string
}

const noLookaround = "has the lookaround %s in a place where it cannot be rewritten; write what to select into the list and what to leave out into its .exclude"

func (l *lookarounds) rewrite() (found alternative, why string) {
	for _, take := range []func(i int, a atom) string{l.takeOther, l.take} {
		for i, a := range l.atoms {
			if why := take(i, a); why != "" {
				return found, why
			}
		}
	}
	plain, why := l.plain(l.atoms)
	switch {
	case l.instead != nil:
		plain = *l.instead
	case why != "":
		return found, why
	}
	found.include = flagged(l.flags, plain)
	for _, x := range l.exclude {
		found.exclude = append(found.exclude, flagged(l.flags, x))
	}
	if _, wrong := compile(found.include); wrong != "" {
		return found, wrong
	}
	return found, ""
}

// takeOther rewrites an atom that is no lookaround itself.
func (l *lookarounds) takeOther(i int, a atom) (why string) {
	if kind, _ := lookaroundOf(a.text); kind != "" {
		return ""
	}
	if someFlags.MatchString(a.text) && leadingFlags.MatchString(a.text) {
		return "has flags beside a lookaround; move the flags to the beginning"
	}
	if _, why := javaPattern(a.text); strings.Contains(why, "lookaround") {
		return l.takeTempered(i, a)
	}
	return ""
}

// take rewrites a lookaround.
func (l *lookarounds) take(i int, a atom) (why string) {
	kind, x := lookaroundOf(a.text)
	switch {
	case kind == "":
		return ""
	case a.quantifier != "":
		return fmt.Sprintf(noLookaround, kind)
	}
	before, why := l.plain(l.atoms[:i])
	if why != "" {
		return why
	}
	after, why := l.plain(l.atoms[i+1:])
	if why != "" {
		return why
	}
	return l.takeLookaround(kind, x, before, after)
}

func (l *lookarounds) takeLookaround(kind, x, before, after string) (why string) {
	names, why := namesOf(x)
	if why != "" {
		return why
	}
	_, fixedBefore := widthOf(before)
	_, fixedAfter := widthOf(after)
	refused := fmt.Sprintf(noLookaround, kind)
	switch kind {
	case "(?!":
		if after == "" || !fixedBefore {
			return refused
		}
		for _, n := range names {
			l.exclude = append(l.exclude, sequence(before, n.text, n.rest()))
		}
	case "(?<!":
		if before == "" || !fixedAfter {
			return refused
		}
		for _, n := range names {
			l.exclude = append(l.exclude, sequence(".*", n.whole(), after))
		}
	case "(?=":
		if !fixedBefore || after != ".*" || l.instead != nil {
			return refused
		}
		text := sequence(before, oneOf(names, func(n sought) string { return sequence(n.text, n.rest()) }))
		l.instead = &text
	case "(?<=":
		if !fixedAfter || before != ".*" || l.instead != nil {
			return refused
		}
		text := sequence(".*", oneOf(names, sought.whole), after)
		l.instead = &text
	}
	return ""
}

// takeTempered rewrites ((?!x).)*, which matches what does not contain x.
func (l *lookarounds) takeTempered(i int, a atom) (why string) {
	inner, ok := unwrapJava(a.text)
	atoms := atomsOf(inner)
	refused := fmt.Sprintf(noLookaround, "(?")
	before, why := l.plain(l.atoms[:i])
	after, whyAfter := l.plain(l.atoms[i+1:])
	_, fixed := widthOf(before)
	if why+whyAfter != "" || !fixed || after != "" || !ok || len(atoms) < 2 || len(splitJava(inner)) > 1 || !slices.Contains([]string{"*", "+", "*?", "+?"}, a.quantifier) {
		return refused
	}
	body := atoms[len(atoms)-1]
	one, why := javaPattern(body.text)
	if width, fixed := widthOf(one); why != "" || body.quantifier != "" || !fixed || width != 1 {
		return refused
	}
	for _, look := range atoms[:len(atoms)-1] {
		kind, x := lookaroundOf(look.text)
		names, why := namesOf(x)
		if kind != "(?!" || look.quantifier != "" || why != "" {
			return refused
		}
		for _, n := range names {
			if re, wrong := compile(n.text); wrong != "" || re.MatchString("") {
				return refused // it is everywhere, also at the end of a name
			}
			l.exclude = append(l.exclude, sequence(before, ".*", n.text, n.rest()))
		}
	}
	l.atoms[i] = atom{body.text, a.quantifier}
	return ""
}

// plain translates atoms without the lookarounds among them.
func (*lookarounds) plain(atoms []atom) (translated, why string) {
	var text strings.Builder
	for _, a := range atoms {
		if kind, _ := lookaroundOf(a.text); kind == "" {
			text.WriteString(a.text + a.quantifier)
		}
	}
	return javaPattern(text.String())
}

// lookaroundOf returns the kind of a lookaround and what it looks for; an empty kind for everything else.
func lookaroundOf(text string) (kind, x string) {
	for _, kind := range []string{"(?<=", "(?<!", "(?=", "(?!"} {
		if x, ok := strings.CutPrefix(text, kind); ok {
			return kind, strings.TrimSuffix(x, ")")
		}
	}
	return "", ""
}

// sought is one alternative of what a lookaround looks for.
type sought struct {
	text string
	ends bool // with a $
}

// rest is what may follow in a name.
func (s sought) rest() string {
	if s.ends {
		return ""
	}
	return ".*"
}

// whole is what matches up to where a lookbehind stands.
func (s sought) whole() string {
	if s.ends {
		return s.text + "$"
	}
	return s.text
}

// oneOf is an expression for any of the alternatives.
func oneOf(names []sought, expression func(sought) string) string {
	var all []string
	for _, n := range names {
		all = append(all, expression(n))
	}
	if len(all) == 1 {
		return all[0]
	}
	return "(?:" + strings.Join(all, "|") + ")"
}

// namesOf splits what a lookaround looks for at its |, so that the excludes are short.
func namesOf(x string) (list []sought, why string) {
	for _, part := range splitJava(x) {
		text, ends := trimDollar(part)
		if inner, ok := unwrapJava(text); ok {
			found, why := namesOf(inner)
			if why != "" {
				return nil, why
			}
			for _, n := range found {
				list = append(list, sought{n.text, n.ends || ends})
			}
			continue
		}
		translated, why := javaPattern(text)
		if why != "" {
			return nil, why
		}
		if someFlags.MatchString(translated) { // they end with the lookaround
			translated = "(?:" + translated + ")"
		}
		list = append(list, sought{translated, ends})
	}
	return list, ""
}

// sequence joins expressions. Two .* beside each other become one.
func sequence(parts ...string) (joined string) {
	for _, part := range parts {
		if strings.HasSuffix(joined, ".*") && !strings.HasSuffix(joined, `\.*`) && strings.HasPrefix(part, ".*") && !strings.HasPrefix(part, ".*?") {
			part = part[len(".*"):]
		}
		joined += part
	}
	return joined
}
