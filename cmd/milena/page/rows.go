package page

import "net/http"

func (p *Page) addRows(mux *http.ServeMux) {}
