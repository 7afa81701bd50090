package config

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// property is one entry of a Java properties file.
type property struct {
	key, value string
	// line is where the entry starts.
	line int
	// separator is the character that ended the key: '=', ':' or ' '.
	separator byte
	// path is where the value is in a file that is no properties file, empty in one that is.
	path string
}

// name is what messages call the property.
func (p *property) name() string { return cmp.Or(p.path, p.key) }

// parseProperties reads a file as java.util.Properties does from an InputStream. Bytes are ISO-8859-1. A key ends at
// the first '=', ':' or white space. A backslash at the end of a line continues it. Trailing white space belongs to
// the value. Entries are in the order of the file, and a repeated key gives several entries, of which the last one
// wins.
func parseProperties(data []byte) (all []property, bad []Problem) {
	lines := naturalLines(data)
	for i := 0; i < len(lines); i++ {
		text := trimBlank(lines[i])
		if text == "" || text[0] == '#' || text[0] == '!' {
			continue
		}
		begin := i + 1
		for continues(text) {
			text = text[:len(text)-1]
			if text == "" || i+1 == len(lines) { // the entry is still empty, so the next line may be a comment
				break
			}
			i++
			text += trimBlank(lines[i])
		}
		if text == "" && i+1 < len(lines) {
			continue
		}
		key, separator, value := cutKey(text)
		p := property{line: begin, separator: separator}
		var keyErr, valueErr error
		p.key, keyErr = unescape(key)
		p.value, valueErr = unescape(value)
		for _, err := range []error{keyErr, valueErr} {
			if err != nil {
				bad = append(bad, Problem{Line: begin, Path: p.key, Text: err.Error()})
			}
		}
		if i+1 < len(lines) && seemsToContinue(lines[i], lines[i+1]) {
			bad = append(bad, Problem{Line: i + 1, Path: p.key, Text: "ends with a backslash and a blank, so that the next line does not belong to it; remove the blank"})
		}
		all = append(all, p)
	}
	return all, bad
}

// naturalLines splits at \n, \r and \r\n, and decodes ISO-8859-1.
func naturalLines(data []byte) []string {
	var b strings.Builder
	b.Grow(len(data))
	for _, c := range data {
		b.WriteRune(rune(c))
	}
	text := strings.ReplaceAll(b.String(), "\r\n", "\n")
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r", "\n"), "\n")
	return strings.Split(text, "\n")
}

const blank = " \t\f"

func trimBlank(s string) string { return strings.TrimLeft(s, blank) }

// continues reports whether a line ends with an odd number of backslashes.
func continues(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// seemsToContinue reports whether a backslash at the end of a line has a blank behind it, and the next line is no property of its own.
func seemsToContinue(line, next string) bool {
	trimmed := strings.TrimRight(line, blank)
	if trimmed == line || !continues(trimmed) {
		return false
	}
	next = trimBlank(next)
	_, separator, _ := cutKey(next)
	return next != "" && next[0] != '#' && next[0] != '!' && separator == ' '
}

// cutKey splits a logical line, without replacing escapes.
func cutKey(text string) (key string, separator byte, value string) {
	end := 0
	for end < len(text) && !strings.ContainsRune("=:"+blank, rune(text[end])) {
		if text[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(text))
	key, separator, value = text[:end], ' ', trimBlank(text[end:])
	if value != "" && (value[0] == '=' || value[0] == ':') {
		separator, value = value[0], trimBlank(value[1:])
	}
	return key, separator, value
}

// unescape replaces \t, \n, \r, \f and \uXXXX, and removes all other backslashes. A \u without four hexadecimal
// digits is an error.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var (
		out strings.Builder
		err error
	)
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			if s[i] != '\\' {
				out.WriteByte(s[i])
			}
			continue
		}
		i++
		switch s[i] {
		case 't':
			out.WriteByte('\t')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 'f':
			out.WriteByte('\f')
		case 'u':
			digits := s[i+1 : min(i+5, len(s))]
			n, wrong := strconv.ParseUint(digits, 16, 16)
			if wrong != nil || len(digits) < 4 {
				err = fmt.Errorf(`%q is not \u followed by four hexadecimal digits; write \\ for a backslash`, `\u`+digits)
				out.WriteByte('u')
				continue
			}
			out.WriteRune(rune(n))
			i += 4
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String(), err
}
