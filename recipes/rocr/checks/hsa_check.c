/* Start the HSA runtime and list its agents. A machine without an AMD GPU has no KFD device, and the
 * runtime then answers HSA_STATUS_ERROR_OUT_OF_RESOURCES: it was loaded, looked, and found nothing. */
#include <hsa/hsa.h>
#include <stdio.h>

static hsa_status_t print_agent(hsa_agent_t agent, void *count) {
  char name[64] = "";
  hsa_status_t status = hsa_agent_get_info(agent, HSA_AGENT_INFO_NAME, name);
  if (status == HSA_STATUS_SUCCESS) {
    printf("agent %s\n", name);
    ++*(int *)count;
  }
  return status;
}

int main(void) {
  hsa_status_t status = hsa_init();
  printf("hsa_init: 0x%x\n", (unsigned)status);
  if (status == HSA_STATUS_ERROR_OUT_OF_RESOURCES) {
    puts("no KFD device: right on a machine without an AMD GPU");
    return 0;
  }
  if (status != HSA_STATUS_SUCCESS) {
    return 1;
  }
  int agents = 0;
  status = hsa_iterate_agents(print_agent, &agents);
  printf("hsa_iterate_agents: 0x%x, %d agents\n", (unsigned)status, agents);
  return status == HSA_STATUS_SUCCESS && agents > 0 && hsa_shut_down() == HSA_STATUS_SUCCESS ? 0 : 1;
}
