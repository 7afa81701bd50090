package config

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// topicCharacters are those of topic names.
const topicCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// groupCharacters stand for those of group names, which may be any: the printable ones of ASCII, and one for all others.
const groupCharacters = topicCharacters + " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~é"

// maxOverlapSteps bounds the search of commonName, in instructions of the expressions. Lists as people write them need some ten thousand.
const maxOverlapSteps = 2_000_000

// commonName returns the shortest name that all expressions of in match and none of out, or "" if no name does. It follows all of them at once,
// letter by letter, through the sets of states that they can be in. The known result is false if that takes too long, or an expression is not
// valid.
func commonName(in, out []string, characters string) (name string, known bool) {
	s := overlapSearch{in: len(in)}
	for _, pattern := range slices.Concat(in, out) {
		parsed, err := syntax.Parse("^(?:"+pattern+")$", syntax.Perl)
		if err != nil {
			return "", false
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return "", false
		}
		s.programs = append(s.programs, program)
	}
	s.letters = s.representatives(characters)
	return s.search()
}

// commonTopics describes topics that all flows select, or returns "". The flows must keep names, or prefix them alike. Literal
// lists and disjoint prefixes are proven disjoint, and so is what the excludes take away. What cannot be proven counts as common.
func commonTopics(flows []selection) string {
	out := []string{"heartbeats"} // which gets a prefix, or belongs to one flow
	for _, f := range flows {
		out = append(out, f.TopicsExclude...)
	}
	lists := make([][]beginning, len(flows))
	for i, f := range flows {
		lists[i] = beginningsOf(f.Topics)
	}
	var find func(in []beginning, rest [][]beginning) string
	find = func(in []beginning, rest [][]beginning) string {
		if len(rest) == 0 {
			return sharedNames(in, out)
		}
		for _, item := range rest[0] {
			if slices.ContainsFunc(in, item.isApartFrom) {
				continue
			}
			if found := find(append(slices.Clip(in), item), rest[1:]); found != "" {
				return found
			}
		}
		return ""
	}
	return find(nil, lists)
}

// beginning is an expression with the letters that all of its names begin with. It is a short cut: lists may be long.
type beginning struct {
	item, letters string
	whole         bool // the letters are the only name
}

func beginningsOf(items []string) (list []beginning) {
	for _, item := range items {
		if re, err := regexp.Compile(item); err == nil { // else it is reported elsewhere
			letters, whole := re.LiteralPrefix()
			list = append(list, beginning{item, letters, whole})
		}
	}
	return list
}

// isApartFrom reports whether two expressions have no name in common, because their names begin with other letters.
func (b beginning) isApartFrom(other beginning) bool {
	if b.whole && other.whole {
		return b.letters != other.letters
	}
	return !strings.HasPrefix(b.letters, other.letters) && !strings.HasPrefix(other.letters, b.letters)
}

// sharedNames describes the names that match all items and no exclude, or returns "".
func sharedNames(in []beginning, out []string) string {
	var items []string
	for _, b := range in {
		items = append(items, b.item)
	}
	name, known := commonName(items, out, topicCharacters)
	if known && name == "" {
		return ""
	}
	items = slices.Compact(slices.Sorted(slices.Values(items)))
	if len(items) == 1 {
		return fmt.Sprintf("the topics that match %q", items[0])
	}
	var quoted []string
	for _, item := range items {
		quoted = append(quoted, strconv.Quote(item))
	}
	text := "the topics that match both " + strings.Join(quoted, " and ")
	if !known {
		return text + ", if there are any, which is not known"
	}
	return text + fmt.Sprintf(", such as %q", name)
}

// overlapSearch is one search for a common name.
type overlapSearch struct {
	programs []*syntax.Prog
	in       int    // the first programs must match
	steps    int    // instructions that were looked at
	letters  []rune // one of each class that no program tells apart
}

// overlapState is what the programs can be in after the same letters.
type overlapState struct {
	at   [][]uint32 // by program: instructions, before the assertions on the next letter
	last rune       // the last letter, -1 at the beginning
	name string
}

// representatives returns one character of each class of those that all programs treat alike.
func (s *overlapSearch) representatives(characters string) []rune {
	var letters []rune
	seen := make(map[string]bool)
	for _, c := range characters {
		var class strings.Builder
		for _, program := range s.programs {
			for i := range program.Inst {
				if isLetter(&program.Inst[i]) {
					fmt.Fprint(&class, program.Inst[i].MatchRune(c), " ")
				}
			}
		}
		fmt.Fprint(&class, syntax.IsWordChar(c))
		if !seen[class.String()] {
			seen[class.String()] = true
			letters = append(letters, c)
		}
	}
	return letters
}

func isLetter(i *syntax.Inst) bool {
	letters := []syntax.InstOp{syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL}
	return slices.Contains(letters, i.Op)
}

func (s *overlapSearch) search() (name string, known bool) {
	begin := overlapState{last: -1}
	for _, program := range s.programs {
		begin.at = append(begin.at, []uint32{uint32(program.Start)})
	}
	seen := map[string]bool{begin.key(): true}
	for queue := []overlapState{begin}; len(queue) > 0; queue = queue[1:] {
		state := queue[0]
		if state.name != "" && s.accepts(state) {
			return state.name, true
		}
		for _, letter := range s.letters {
			next, alive := s.step(state, letter)
			if key := next.key(); alive && !seen[key] {
				seen[key] = true
				queue = append(queue, next)
			}
		}
		if s.steps > maxOverlapSteps {
			return "", false
		}
	}
	return "", true
}

// key is the same for states from which the same names can follow.
func (o overlapState) key() string {
	return fmt.Sprint(o.at, o.last < 0, syntax.IsWordChar(o.last))
}

// step follows one letter. The alive result is false if a program that must match no longer can.
func (s *overlapSearch) step(from overlapState, letter rune) (to overlapState, alive bool) {
	to = overlapState{last: letter, name: from.name + string(letter)}
	for i, program := range s.programs {
		var next []uint32
		reached := closure(program, from.at[i], syntax.EmptyOpContext(from.last, letter))
		s.steps += len(reached)
		for _, pc := range reached {
			if inst := &program.Inst[pc]; isLetter(inst) && inst.MatchRune(letter) {
				next = append(next, inst.Out)
			}
		}
		if len(next) == 0 && i < s.in {
			return to, false
		}
		slices.Sort(next)
		to.at = append(to.at, slices.Compact(next))
	}
	return to, true
}

// accepts reports whether the name so far is one that is searched for.
func (s *overlapSearch) accepts(state overlapState) bool {
	for i, program := range s.programs {
		end := closure(program, state.at[i], syntax.EmptyOpContext(state.last, -1))
		matches := slices.ContainsFunc(end, func(pc uint32) bool { return program.Inst[pc].Op == syntax.InstMatch })
		if matches != (i < s.in) {
			return false
		}
	}
	return true
}

// closure returns the instructions that are reached without a letter, between two letters for which the assertions hold.
func closure(program *syntax.Prog, from []uint32, holds syntax.EmptyOp) []uint32 {
	reached := make(map[uint32]bool)
	var order []uint32
	var visit func(pc uint32)
	visit = func(pc uint32) {
		if reached[pc] {
			return
		}
		reached[pc] = true
		order = append(order, pc)
		switch inst := &program.Inst[pc]; inst.Op { //nolint:exhaustive // the others need a letter, or end
		case syntax.InstAlt, syntax.InstAltMatch:
			visit(inst.Out)
			visit(inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			visit(inst.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(inst.Arg)&^holds == 0 {
				visit(inst.Out)
			}
		}
	}
	for _, pc := range from {
		visit(pc)
	}
	return order
}

// widthOf returns the number of characters of what an expression matches, if all its matches have the same.
func widthOf(pattern string) (width int, fixed bool) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, false
	}
	return nodeWidth(parsed)
}

func nodeWidth(re *syntax.Regexp) (width int, fixed bool) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return 0, true
	case syntax.OpLiteral:
		return utf8.RuneCountInString(string(re.Rune)), true
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1, true
	case syntax.OpCapture:
		return nodeWidth(re.Sub[0])
	case syntax.OpRepeat:
		one, ok := nodeWidth(re.Sub[0])
		return one * re.Min, ok && re.Min == re.Max
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			one, ok := nodeWidth(sub)
			if width += one; !ok {
				return 0, false
			}
		}
		return width, true
	case syntax.OpAlternate:
		width, fixed = nodeWidth(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			one, ok := nodeWidth(sub)
			fixed = fixed && ok && one == width
		}
		return width, fixed
	case syntax.OpNoMatch, syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		return 0, false
	default:
		return 0, false
	}
}
