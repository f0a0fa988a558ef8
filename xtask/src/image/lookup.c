// Looks each name up as programs do, by getaddrinfo of the C library that this is
// linked with: a line of addresses for each, or of what is wrong.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **names) {
	int failed = 0;
	for (int i = 1; i < count; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
		int code = getaddrinfo(names[i], NULL, &hints, &list);
		if (code != 0) {
			printf("%s", gai_strerror(code));
			failed = 1;
		}
		for (struct addrinfo *entry = list; entry != NULL; entry = entry->ai_next) {
			char text[NI_MAXHOST];
			getnameinfo(entry->ai_addr, entry->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
			printf(entry == list ? "%s" : " %s", text);
		}
		printf("\n");
		if (list != NULL)
			freeaddrinfo(list);
	}
	return failed;
}
