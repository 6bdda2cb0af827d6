/* SPDX-License-Identifier: MIT
 *
 * Writes ten samples of 1 MiB in place and publishes them, once somebody listens: publish_c [TOPIC]
 */
#include <holdfast/holdfast.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int result) {
  if (result == HF_OK) return;
  fprintf(stderr, "%s: %s\n", hf_result_name(result), hf_last_error());
  exit(1);
}

int main(int argc, char** argv) {
  const int64_t forever = -1;
  hf_client* client = NULL;
  hf_publisher* publisher = NULL;
  check(hf_client_open(NULL, &client));
  check(hf_publisher_open(client, argc > 1 ? argv[1] : "example/blocks", NULL, &publisher));
  check(hf_publisher_wait_for_subscribers(publisher, 1, forever));
  for (int i = 0; i < 10; ++i) {
    hf_loan loan;
    check(hf_publisher_loan(publisher, 1 << 20, 0, forever, &loan));
    memset(hf_loan_data(&loan), 'a' + i, 1 << 20);
    check(hf_loan_publish(&loan, forever));
  }
  check(hf_publisher_drain(publisher, forever));
  hf_publisher_close(publisher);
  hf_client_close(client);
  return 0;
}
