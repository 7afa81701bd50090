package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/milena-kafka/milena/config"
)

// UnusedItem is an item of a flow's lists that selects nothing: it matches no name, or only names that are left out. A group or a topic that
// somebody believes to be copied would be missed only after a failover.
type UnusedItem struct {
	// List is the key of the flow: topics, topics_exclude, rename, groups, groups_exclude or groups_back.
	List string `json:"list"`
	Item string `json:"item"`
	// Reason is the end of a sentence that begins with the item.
	Reason string `json:"reason"`
	// Notice means that nothing seems wrong with the item: it is a pattern, and may match a name that appears later.
	Notice bool `json:"notice,omitempty"`
}

// String is a sentence.
func (u UnusedItem) String() string { return fmt.Sprintf("%s: %q %s", u.List, u.Item, u.Reason) }

// list is one list of expressions of a flow, as it was written.
type list struct {
	key, noun string
	items     []string
	usual     []string // items that are not worth a word if they match nothing, because nobody wrote them, or everybody does
}

// The excludes of MirrorMaker 2 since its first version.
func usualTopicExcludes() []string {
	return append(config.DefaultFlow("", "").TopicsExclude, `.*[\-\.]internal`, `.*\.internal`, `__consumer_offsets`)
}

func topicLists(f config.Flow) []list {
	excluded := slices.DeleteFunc(slices.Clone(f.TopicsExclude), func(item string) bool { return strings.HasSuffix(item, ")?heartbeats") || item == heartbeatsTopic })
	return []list{
		{"topics", "topic", f.Topics, []string{".*"}},
		{"topics_exclude", "topic", excluded, usualTopicExcludes()},
	}
}

func groupLists(f config.Flow) []list {
	return []list{
		{"groups", "group", f.Groups, []string{".*"}},
		{"groups_exclude", "group", f.GroupsExclude, config.DefaultFlow("", "").GroupsExclude},
		{"groups_back", "group", f.GroupsBack, []string{".*"}},
	}
}

// Unused returns the items of the topic lists that select none of the source's topics, in the order of the lists.
func (t *Topics) Unused(names []string) []UnusedItem {
	var found []UnusedItem
	all := newKnownNames(names)
	for _, l := range t.lists {
		isCopied := func(string) (string, bool) { return "", true }
		if l.key == "topics" {
			isCopied = func(name string) (string, bool) {
				_, reason := t.Target(name)
				return reason.Explain(), reason == "" || reason == ReasonNameTooLong // which is refused and told by itself
			}
		}
		found = append(found, l.unused(all, isCopied)...)
	}
	if len(t.rename) == 0 {
		return found
	}
	return append(found, t.unusedRenames(all)...)
}

// unusedRenames returns the topics of the rename table that do not exist, or are left out.
func (t *Topics) unusedRenames(names *knownNames) []UnusedItem {
	var found []UnusedItem
	for _, source := range slices.Sorted(maps.Keys(t.rename)) {
		_, reason := t.Target(source)
		switch {
		case !names.exists[source]:
			found = append(found, UnusedItem{List: "rename", Item: source, Reason: names.missing("topic", source)})
		case reason != "" && reason != ReasonNameTooLong:
			found = append(found, UnusedItem{List: "rename", Item: source, Reason: "is left out: it " + reason.Explain()})
		}
	}
	return found
}

// Unused returns the items of the group lists that select none of the source's groups, in the order of the lists.
func (g *Groups) Unused(names []string) []UnusedItem {
	var found []UnusedItem
	all := newKnownNames(names)
	for _, l := range g.lists {
		found = append(found, l.unused(all, func(string) (string, bool) { return "", true })...)
	}
	return found
}

// unused checks each item, and each alternative of an item such as a|b. The function says whether a name that an item matches is used, or why
// not.
func (l list) unused(names *knownNames, isUsed func(name string) (why string, ok bool)) []UnusedItem {
	var found []UnusedItem
	for _, item := range l.items {
		for _, part := range alternatives(item) {
			if slices.Contains(l.usual, part) {
				continue
			}
			if reason, notice := l.check(part, names, isUsed); reason != "" {
				found = append(found, UnusedItem{l.key, part, reason, notice})
			}
		}
	}
	return found
}

// check returns why an expression selects nothing, or "".
func (l list) check(item string, names *knownNames, isUsed func(name string) (why string, ok bool)) (reason string, notice bool) {
	literal, isLiteral := literalOf(item)
	if isLiteral && names.exists[literal] { // without a look at all others
		why, ok := isUsed(literal)
		if !ok {
			return "is left out: it " + why, false
		}
		return "", false
	}
	re, err := regexp.Compile("^(?:" + item + ")$")
	if err != nil {
		return "", false // reported elsewhere
	}
	left, why := "", ""
	for _, name := range names.sorted {
		if !re.MatchString(name) {
			continue
		}
		text, ok := isUsed(name)
		if ok {
			return "", false
		}
		if left == "" {
			left, why = name, text
		}
	}
	if left != "" {
		return fmt.Sprintf("matches only topics that are left out: %s %s", left, why), false
	}
	if slip := slipIn(l.noun, item, names.sorted); slip != "" {
		return slip, false
	}
	if isLiteral {
		return names.missing(l.noun, literal), false
	}
	return fmt.Sprintf("matches no %s yet", l.noun), true
}

// literalOf returns the only name that an expression can mean. The dots of a name are taken for dots, although each matches any character.
func literalOf(item string) (name string, ok bool) {
	if legalTopicChars(item) {
		return item, true
	}
	re, err := regexp.Compile(item)
	if err != nil {
		return "", false
	}
	return re.LiteralPrefix()
}

// slipIn names a slip of the pen in an expression that matches nothing, or returns "".
func slipIn(noun, item string, names []string) string {
	bare := strings.Trim(item, "\"'`")
	switch {
	case bare != item:
		return fmt.Sprintf("matches no %s, because its quotes are part of the expression; remove them", noun)
	case strings.Contains(item, ";"):
		return fmt.Sprintf("matches no %s, because a ; separates nothing; separate items with commas", noun)
	case strings.ContainsAny(item, " \t"):
		return fmt.Sprintf("matches no %s, because of its blank; separate items with commas, and end a line that continues with nothing behind the backslash", noun)
	}
	stem, star := strings.CutSuffix(item, "*")
	if star && stem != "" && legalTopicChars(stem) && !strings.HasSuffix(stem, ".") && slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, stem) }) {
		return fmt.Sprintf("matches no %s, because * only repeats the character before it; use %s.*", noun, regexp.QuoteMeta(stem))
	}
	return ""
}

// knownNames are the names that exist.
type knownNames struct {
	sorted   []string
	exists   map[string]bool
	searched int // how often a similar name was looked for
}

func newKnownNames(sorted []string) *knownNames {
	n := &knownNames{sorted: sorted, exists: make(map[string]bool, len(sorted))}
	for _, name := range sorted {
		n.exists[name] = true
	}
	return n
}

// maxSearches bounds how often a similar name is looked for, because there may be many of both.
const maxSearches = 20

// missing says that nothing has the name, and which name may be meant.
func (n *knownNames) missing(noun, name string) string {
	text := fmt.Sprintf("is no %s that milena can see", noun)
	if n.searched++; n.searched > maxSearches {
		return text
	}
	if at := slices.IndexFunc(n.sorted, func(other string) bool { return strings.EqualFold(name, other) }); at >= 0 {
		return text + fmt.Sprintf("; did you mean %q?", n.sorted[at])
	}
	longer := func(other string) bool {
		return strings.HasPrefix(other, name) && len(other) > len(name) && strings.ContainsRune(".-_", rune(other[len(name)]))
	}
	if at := slices.IndexFunc(n.sorted, longer); at >= 0 {
		return text + fmt.Sprintf(", because an item matches whole names; to select those that begin with it, such as %s, use %s.*", n.sorted[at], regexp.QuoteMeta(name))
	}
	if near := config.Nearest(name, n.sorted); near != "" {
		return text + fmt.Sprintf("; did you mean %q?", near)
	}
	return text
}

// alternatives splits an expression at the | outside of parentheses and classes. What it cannot split for certain is one alternative.
func alternatives(item string) []string {
	if inner, ok := unwrap(item); ok {
		return alternatives(inner)
	}
	var parts []string
	depth, from, class := 0, 0, false
	for i := 0; i < len(item); i++ {
		switch c := item[i]; {
		case c == '\\' && strings.HasPrefix(item[i:], `\Q`):
			return []string{item}
		case c == '\\':
			i++
		case class:
			class = c != ']'
		case c == '[':
			class = true
			if strings.HasPrefix(item[i:], "[]") || strings.HasPrefix(item[i:], "[^]") {
				return []string{item}
			}
		case c == '(':
			if strings.HasPrefix(item[i:], "(?") && !strings.HasPrefix(item[i:], "(?:") {
				return []string{item} // flags, which may hold for what follows
			}
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			parts, from = append(parts, item[from:i]), i+1
		}
	}
	return append(parts, item[from:])
}

// unwrap removes parentheses around a whole expression.
func unwrap(item string) (inner string, ok bool) {
	inner, ok = strings.CutPrefix(item, "(")
	if !ok || !strings.HasSuffix(inner, ")") || strings.HasSuffix(inner, `\)`) {
		return item, false
	}
	inner = strings.TrimPrefix(inner[:len(inner)-1], "?:")
	if _, err := regexp.Compile(inner); err != nil || strings.HasPrefix(inner, "?") || strings.ContainsAny(inner, `()[\`) {
		return item, false
	}
	return inner, true
}
