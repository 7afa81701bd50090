package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// contentPolicy is what the page may load and do. It shows names from two clusters: if one ever became markup, it still could not load, run or send anything.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// asset is a file of the page.
type asset struct {
	content []byte
	kind    string // MIME type
	tag     string // changes with the content
}

// readAssets reads the files that are built in, by their paths below assets.
func readAssets() map[string]asset {
	found := make(map[string]asset)
	_ = fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error { // it cannot fail: the files are in the program
		if err != nil || d.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(name)
		sum := sha256.Sum256(content)
		kind := mime.TypeByExtension(path.Ext(name))
		switch path.Ext(name) { // not what the host thinks of it
		case ".js", ".mjs":
			kind = "text/javascript; charset=utf-8"
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".html":
			kind = "text/html; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		}
		found[strings.TrimPrefix(name, "assets/")] = asset{content, kind, `"` + hex.EncodeToString(sum[:12]) + `"`}
		return err
	})
	return found
}

// addAssets adds the paths of the files. They hold no data.
func addAssets(mux *http.ServeMux) {
	all := readAssets()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { all["index.html"].serve(w, r) })
	mux.HandleFunc("GET /assets/{name...}", func(w http.ResponseWriter, r *http.Request) {
		a, ok := all[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		a.serve(w, r)
	})
}

// serve answers with the file, or that the browser has it. A browser asks each time, so that it never mixes the files of two versions.
func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", a.tag)
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.kind)
	_, _ = w.Write(a.content) // an error means that the client has disconnected
}
